"""A server in a process of its own that answers every request with its process number; a model too large if asked."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply({"data": [{"id": "stub"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choice = {"text": str(os.getpid()), "finish_reason": "stop"}
        self.reply({"choices": [{"index": i, **choice} for i in range(body["n"])]})


if __name__ == "__main__":
    port, rank, model = sys.argv[1:]
    if rank == "13":
        sys.exit("no rank 13 here")
    assert os.path.isdir(model)
    for switch in ("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        assert os.environ[switch] == "1"
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
