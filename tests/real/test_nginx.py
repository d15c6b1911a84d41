"""nginx with two workers: a few thousand requests, every body checked, one graceful reload.

Files of 0 to 400 KB, plain, in ranges, and compressed; the same through nginx as its own proxy with
and without buffering; uploads that are given back; on kept and on new connections. The reload
comes in the middle: new workers must take over and no answer may be lost.
"""

import concurrent.futures
import gzip
import http.client
import os
import random
import signal

import realtest

THREADS = 6
KEPT = 400     # requests of each thread on kept connections
FRESH = 70     # requests of each thread on a connection of their own
SIZES = [0, 1, 100, 511, 4096, 5000, 16000, 33000, 70000, 150000, 400000]

CONFIG = """
daemon off;
{user}
worker_processes 2;
pid {directory}/nginx.pid;
error_log {directory}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 90;
    client_body_buffer_size 8k;
    gzip_min_length 200;
    gzip_types *;
    upstream self {{ server 127.0.0.1:{port}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        root {directory}/pages;
        location /packed/ {{ alias {directory}/pages/; gzip on; gzip_comp_level 6; }}
        location /proxied/ {{
            proxy_pass http://self/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffers 4 4k;
        }}
        location /direct/ {{ proxy_pass http://self/; proxy_buffering off; }}
        location /upload {{ dav_methods PUT; create_full_put_path on; client_max_body_size 1m; }}
        location /text {{ return 200 "a text from $request_uri on $server_protocol\\n"; }}
    }}
}}
"""


def content(i):
    """The bytes of file i: half of them compress well."""
    source = random.Random(i)
    size = SIZES[i % len(SIZES)]
    if i % 2:
        return source.randbytes(size)
    return (b"%x line of file %d\n" % (source.getrandbits(200), i) * (size // 20 + 1))[:size]


class Visitor:
    """One client that asks for things and checks every answer."""

    def __init__(self, port, name, files):
        self.port = port
        self.name = name
        self.files = files
        self.source = random.Random(name)
        self.connection = None
        self.answers = 0

    def ask(self, method, path, body=None, headers=None):
        """An answer's status, headers and body. A kept connection that the server has closed in
        the meantime is opened again, as every client has to."""
        for attempt in (0, 1):
            fresh = self.connection is None
            if fresh:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                self.connection.request(method, path, body, headers or {})
                answer = self.connection.getresponse()
                result = answer.status, answer.headers, answer.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.close()
                if fresh or attempt:
                    raise
                continue
            if answer.will_close:
                self.close()
            self.answers += 1
            return result
        return None

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def expect(self, path, got, wanted, status, code=200):
        if status != code or got != wanted:
            raise AssertionError(f"{path}: status {status}, {len(got)} bytes; expected {code}, "
                                 f"{len(wanted)} bytes")

    def visit(self):
        """One request of a kind chosen at random."""
        i = self.source.randrange(len(self.files))
        wanted = self.files[i]
        kind = self.source.choice(["", "", "packed/", "proxied/", "direct/", "range", "text",
                                   "missing", "upload"])
        path = f"/{kind}{'file' + str(i) if kind in ('', 'packed/', 'proxied/', 'direct/') else ''}"
        if kind == "range" and len(wanted) > 10:
            start = self.source.randrange(len(wanted) - 10)
            path = f"/file{i}"
            status, _, got = self.ask("GET", path, None, {"Range": f"bytes={start}-{start + 9}"})
            self.expect(path, got, wanted[start:start + 10], status, 206)
        elif kind == "packed/":
            status, headers, got = self.ask("GET", path, None, {"Accept-Encoding": "gzip"})
            if headers.get("Content-Encoding") == "gzip":
                got = gzip.decompress(got)
            elif len(wanted) >= 200:
                raise AssertionError(f"{path} came uncompressed")
            self.expect(path, got, wanted, status)
        elif kind == "upload":
            path = f"/upload/{self.name}/{i}"
            status, _, _ = self.ask("PUT", path, wanted)
            if status not in (201, 204):
                raise AssertionError(f"PUT {path}: status {status}")
            status, _, got = self.ask("GET", path)
            self.expect(path, got, wanted, status)
        elif kind in ("text", "range"):
            path = f"/text/{'x' * i}?{i}"
            status, _, got = self.ask("GET", path)
            self.expect(path, got, f"a text from {path} on HTTP/1.1\n".encode(), status)
        elif kind == "missing":
            status, _, got = self.ask("GET", path)
            self.expect(path, got[:6], b"<html>", status, 404)
        else:
            status, _, got = self.ask("GET", path)
            self.expect(path, got, wanted, status)

    def visit_all(self, kept, fresh):
        for _ in range(kept):
            self.visit()
        for _ in range(fresh):
            self.close()
            self.visit()
        self.close()
        return self.answers


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return {int(word) for word in file.read().split()}


class Nginx(realtest.RealTest):
    def setUp(self):
        super().setUp()
        self.nginx = realtest.program("nginx", "nginx")
        self.files = [content(i) for i in range(40)]

    def prepare(self, directory, port):
        root = os.path.join(directory, "pages")
        os.mkdir(root)
        os.mkdir(os.path.join(root, "upload"))
        for i, data in enumerate(self.files):
            realtest.write(data, root, f"file{i}")
        user = "user root;" if os.geteuid() == 0 else ""
        return realtest.write(CONFIG.format(directory=directory, port=port, user=user),
                              directory, "nginx.conf")

    def visit_from_threads(self, port, kept, fresh):
        visitors = [Visitor(port, name, self.files) for name in range(THREADS)]
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(visitor.visit_all, kept, fresh) for visitor in visitors]
            return sum(future.result() for future in futures)

    def reload(self, side, master):
        """Ask for a graceful reload; returns once both workers are new ones."""
        before = children(master)
        os.kill(master, signal.SIGHUP)
        realtest.wait_until(lambda: len(children(master) - before) == 2, 20, "nginx reloaded")
        return before

    def test_requests_and_reload(self):
        def work(side, directory):
            port = realtest.free_port()
            config = self.prepare(directory, port)
            argv = [self.nginx, "-p", directory, "-c", config, "-e", directory + "/error.log"]
            with side.server(argv, directory, lambda: realtest.answers(port),
                             stop=signal.SIGQUIT) as process:
                count = self.visit_from_threads(port, KEPT // 2, FRESH // 2)
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    during = pool.submit(self.visit_from_threads, port, KEPT // 2, FRESH // 2)
                    before = self.reload(side, process.pid)
                    count += during.result()
                realtest.wait_until(lambda: not children(process.pid) & before, 30,
                                    "the old workers have ended")
                workers = children(process.pid)
                self.assertEqual(len(workers), 2)
                for pid in workers:
                    side.check_process(pid)
            with open(os.path.join(directory, "error.log"), "rb") as file:
                log = file.read()
            side.check_messages(log, "nginx")
            for bad in (b"[alert]", b"[crit]", b"[emerg]", b"signal 11", b"signal 6"):
                self.assertNotIn(bad, log, realtest.tail(log))
            return count
        count = self.assert_same(work)
        self.assertGreater(count, 2500)
        print(f"{count} answers on each side")


if __name__ == "__main__":
    realtest.main()
