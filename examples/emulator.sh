#!/bin/sh
# A CI job against the emulator: what a workflow does in front of its own tests, and one forced failure.
# Needs refloat on PATH, curl and python3.
set -eu

PORT=${PORT:-8080}
URL=http://127.0.0.1:$PORT
TOKEN=rf_emulator

refloat emulator --port "$PORT" &
EMULATOR=$!
trap 'kill $EMULATOR; wait $EMULATOR || true' EXIT
curl -sf --retry 50 --retry-delay 1 --retry-all-errors --max-time 2 -o /dev/null "$URL/healthz"

call() { # METHOD PATH [BODY]
  curl -sf -X "$1" "$URL$2" -H "Authorization: Token $TOKEN" ${3:+-d "$3"}
}
field() { # the value at a path like results.0.id, from JSON on stdin
  python3 -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[int(key)] if isinstance(value, list) else value[key]
print(value)' "$1"
}
ends() { # ENVIRONMENT STATE: waits for the last deployment to end, and compares
  while :; do
    state=$(call GET "/environment/$1/status" | field last_deployment_state)
    case $state in *ING | *QUEUED) sleep 0.1 ;; *) break ;; esac
  done
  echo "deployment ended: $state"
  [ "$state" = "$2" ]
}

ORGANIZATION=$(call GET /organization | field results.0.id)
PROJECT=$(call GET "/organization/$ORGANIZATION/project" | field results.0.id)
ENVIRONMENT=$(call POST "/project/$PROJECT/environment" '{"name": "ci"}' | field id)
APPLICATION=$(call POST "/environment/$ENVIRONMENT/application" '{
  "name": "api",
  "git_repository": {"url": "https://example.org/api.git"},
  "ports": [{"internal_port": 8000, "publicly_accessible": true}],
  "healthchecks": {}
}' | field id)

call POST "/environment/$ENVIRONMENT/redeploy" >/dev/null
ends "$ENVIRONMENT" DEPLOYED

call PUT "/refloat/service/$APPLICATION/simulation" '{"script": "boot=exit"}' >/dev/null
call POST "/application/$APPLICATION/restart-service" >/dev/null
ends "$ENVIRONMENT" RESTART_ERROR

call PUT "/refloat/service/$APPLICATION/simulation" '{"script": ""}' >/dev/null
call POST "/environment/$ENVIRONMENT/redeploy" >/dev/null
ends "$ENVIRONMENT" DEPLOYED
