"""People who use an application while things happen to it."""

import http.client
import threading


class Visitor(threading.Thread):
    """One client on a kept connection, at most ten requests a second, none sent again."""

    def __init__(self, port: int, host: str) -> None:
        super().__init__(daemon=True)
        self._port, self._host = port, host
        self.over = threading.Event()
        self.sent, self.failures, self.last = 0, list[str](), ""

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self.over.wait(0.1):
            self.sent += 1
            try:
                connection.request("GET", "/", headers={"Host": self._host})
                answer = connection.getresponse()
                text = answer.read().decode()
                if answer.status == 200:
                    self.last = text
                else:
                    self.failures.append(f"{answer.status} {text[:100]}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
        connection.close()
