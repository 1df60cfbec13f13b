"""An environment as a file: the bodies of the API's own requests, with names in the place of ids."""
