"""Whether Orthanc answers; user and password are those of its merged settings."""

import base64
import json
import urllib.request
from pathlib import Path

settings = json.loads(Path("/tmp/orthanc.json").read_text(encoding="utf-8"))  # noqa: S108 - start.py put it there
request = urllib.request.Request("http://127.0.0.1:8042/system")
for name, password in settings.get("RegisteredUsers", {}).items():
    request.add_header("Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode())
urllib.request.urlopen(request, timeout=5).read()  # noqa: S310 - our own address
