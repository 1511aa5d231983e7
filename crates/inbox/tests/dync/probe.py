"""A client of dync's protocol for tests, written from the protocol's text and from how the client of 2016 was seen to
behave. It needs pyzmq and a server; which server does not matter.

    probe.py enrol FOLDER NAME                     makes NAME.key and NAME.key_secret
    probe.py upload [options] SERVER_KEY SECRET HOST PORT FILE
    probe.py hostile SERVER_KEY SECRET HOST PORT   sends what no client sends
    probe.py refused SERVER_KEY SECRET HOST PORT   expects that the handshake fails

It prints one line of JSON, and ends with 0 if all went as it should.
"""

import argparse
import collections
import hashlib
import json
import os
import random
import socket
import struct
import sys
import threading
import time
import uuid

import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message


def u32(number):
    return struct.pack(">I", number)


def u64(number):
    return struct.pack(">Q", number)


def new_identity():
    """As the old client makes it, but for those that ZeroMQ keeps for itself: the server refuses them."""
    while True:
        identity = uuid.uuid4().bytes
        if identity[0] != 0:
            return identity


class Failed(Exception):
    """Something that the old client ends with."""


def dealer(context, arguments, port=None, identity=None):
    """A socket as the old client has it."""
    dealing = context.socket(zmq.DEALER)
    public, secret = zmq.auth.load_certificate(arguments.secret)
    server, _ = zmq.auth.load_certificate(arguments.server_key)
    dealing.curve_publickey, dealing.curve_secretkey = public, secret
    dealing.curve_serverkey = server
    dealing.identity = identity or new_identity()
    dealing.linger = 0
    # A socket that was refused takes no more, and would block for ever.
    dealing.sndtimeo = 10_000
    dealing.reconnect_ivl, dealing.reconnect_ivl_max = 50, 200
    dealing.connect("tcp://%s:%d" % (arguments.host, port or arguments.port))
    return dealing


class Relay(threading.Thread):
    """Passes TCP on, and cuts it after so many bytes, so many times."""

    def __init__(self, host, port, after, times):
        super().__init__(daemon=True)
        self.there, self.after, self.times = (host, port), after, times
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.cuts = 0

    def run(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(self.there)
            except OSError:
                near.close()
                continue
            threading.Thread(target=self.carry, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self.carry, args=(far, near, False), daemon=True).start()

    def carry(self, source, target, counted):
        left = self.after
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                target.sendall(data)
                left -= len(data) if counted else 0
                if left <= 0 and self.cuts < self.times:
                    self.cuts += 1
                    break
        except OSError:
            pass
        for end in (source, target):
            # With a reset, so that what is on its way is lost.
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()


class Upload:
    """One upload by the rules of the old client."""

    def __init__(self, dealing, stream, arguments):
        self.dealing, self.stream, self.arguments = dealing, stream, arguments
        self.kept = collections.deque()
        self.seek, self.credit = 0, 0
        self.sum, self.hashed = hashlib.sha256(), 0
        self.end = None
        self.size = None
        self.told = collections.Counter()
        self.ignore_finished = arguments.ignore_finished

    def run(self, name, metadata):
        self.dealing.send_multipart([b"post-file", u32(0), name.encode(), metadata.encode()])
        if not self.dealing.poll(self.arguments.approval):
            raise Failed("no answer to post-file")
        answer = self.dealing.recv_multipart()
        if answer[0] == b"error":
            raise Failed("error %d: %s" % (int.from_bytes(answer[1], "big"), answer[2].decode()))
        if answer[0] != b"upload-approved":
            raise Failed("%r in place of an approval" % answer[0])
        self.credit, self.chunk, most = (int.from_bytes(part, "big") for part in answer[1:])
        self.kept = collections.deque(maxlen=most)
        silent = 0
        while True:
            if self.credit > 0 and not self.ended() and not self.dealing.poll(0):
                self.send()
                continue
            if not self.dealing.poll(self.arguments.timeout):
                silent += 1
                if silent > self.arguments.retries:
                    raise Failed("no answer to %d queries" % silent)
                self.told["queries"] += 1
                for count, file in self.arguments.remove or ():
                    if self.told["queries"] == int(count):
                        os.remove(file)
                self.dealing.send_multipart([b"query-status"])
                continue
            silent = 0
            done = self.hear(self.dealing.recv_multipart())
            if done is not None:
                return done

    def ended(self):
        return self.end is not None and self.seek > self.end

    def hear(self, message):
        command, rest = message[0], message[1:]
        self.told[command.decode()] += 1
        if command == b"transfer-credit":
            self.credit += int.from_bytes(rest[0], "big")
            if self.credit and self.ended():
                # The old client sends its last chunk once more.
                self.post(*self.kept[-1])
        elif command == b"status-report":
            seek = int.from_bytes(rest[0], "big")
            if not self.kept:
                raise Failed("a report to a client that has sent nothing")
            if seek < self.kept[0][0] or seek > self.top():
                raise Failed("a report to %d, which is not kept" % seek)
            self.seek, self.credit = seek, int.from_bytes(rest[1], "big")
        elif command == b"upload-finished":
            if self.ignore_finished == 0:
                return rest[0].decode()
            self.ignore_finished -= 1
        elif command == b"error":
            raise Failed("error %d: %s" % (int.from_bytes(rest[0], "big"), rest[1].decode()))
        else:
            raise Failed("%r is no message" % command)
        return None

    def top(self):
        return self.kept[-1][0] + len(self.kept[-1][1])

    def send(self):
        """The chunk at our place, from memory or from the stream."""
        for at, data, last in self.kept:
            if at == self.seek:
                return self.post(at, data, last)
        data = self.stream.read(self.chunk)
        self.sum.update(data)
        last = not data
        if self.arguments.data_in_last and len(data) < self.chunk:
            last = True
        if last:
            self.size = self.seek + len(data)
        self.kept.append((self.seek, data, last))
        return self.post(self.seek, data, last)

    def post(self, at, data, last):
        message = [b"post-chunk", u32(1 if last else 0), u64(at), data]
        if last:
            checksum = b"\0" * 32 if self.arguments.wrong_sum else self.sum.digest()
            message.append(checksum)
            self.end = at
        times = 2 if last and self.arguments.repeat_last else 1
        for _ in range(times):
            self.dealing.send_multipart(message)
        self.credit -= 1
        self.seek = at + len(data) + (1 if last else 0)
        return None


def upload(arguments):
    context = zmq.Context()
    port = arguments.port
    relay = None
    if arguments.cut_after:
        relay = Relay(arguments.host, arguments.port, arguments.cut_after, arguments.cuts)
        relay.start()
        port = relay.port
    stream = sys.stdin.buffer if arguments.file == "-" else open(arguments.file, "rb")
    uploading = Upload(dealer(context, arguments, port), stream, arguments)
    name = arguments.name or os.path.basename(arguments.file)
    said = {}
    try:
        said["id"] = uploading.run(name, arguments.meta)
        code = 0
    except (Failed, zmq.Again) as failure:
        said["failed"] = str(failure)
        code = 1
    said.update(uploading.told, size=uploading.size, sha256=uploading.sum.hexdigest())
    said["cuts"] = relay.cuts if relay else 0
    print(json.dumps(said))
    sys.stdout.flush()
    # No goodbye: threads of the relay may be at work.
    os._exit(code)


def refused(arguments):
    """The handshake fails, and nothing that is sent is answered."""
    context = zmq.Context()
    dealing = dealer(context, arguments, identity=bytes.fromhex(arguments.identity))
    monitor = dealing.get_monitor_socket()
    dealing.send_multipart([b"post-file", u32(0), b"f", b"{}"])
    failures = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
                zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if monitor.poll(200) and recv_monitor_message(monitor)["event"] in failures:
            answered = dealing.poll(300)
            print(json.dumps({"refused": not answered}))
            return 1 if answered else 0
    print(json.dumps({"refused": False}))
    return 1


def hostile(arguments):
    """What no client sends; afterwards the server has to be there for others."""
    context = zmq.Context()
    chance = random.Random(arguments.seed)
    file, chunk, one, zero = b"post-file", b"post-chunk", u32(1), u32(0)
    deep = b'{"a":' * 100_000
    huge = b"9" * 400_000
    messages = [
        [b""], [b"", b"", b""], [b"\xff" * 40], [b"query-status", b"x"], [file],
        [file, zero, b"\xff\xfe", b"{}"], [file, zero, b"n", b"\xff"], [file, b"", b"n", b"{}"],
        [file, zero, b"n", deep], [file, zero, b"n", b'{"n":' + huge + b"}"],
        [file, zero, b"n", b"[1,2]"], [file, zero, b"n", b"no json"], [file, zero, b"", b"{}"],
        [file, zero, b"../../../etc/passwd", b"{}"], [file, zero, b"n" * 100_000, b"{}"],
        [file, zero, b"n\0m", b"{}"], [file, u32(2**32 - 1), b"n", b"{}"],
        [chunk, zero, u64(2**64 - 1), b"x"], [chunk, one, u64(0), b"x"],
        [chunk, one, u64(0), b"x", b"short"], [chunk, zero, b"\0" * 7, b"x"],
        [chunk, u32(2**32 - 1), u64(2**64 - 1), b"x" * 1000, b"s" * 32],
        [b"error"], [b"error", zero, b"\xff"], [b"error", b"", b""],
        [b"upload-finished", b"x"], [b"x"] * 200, [b"query-status"],
    ]
    answers = 0
    for message in messages:
        dealing = dealer(context, arguments)
        dealing.send_multipart(message)
        # Not every one is answered; a client that waits must not hold the others up.
        while dealing.poll(100):
            dealing.recv_multipart()
            answers += 1
        dealing.close()
    # All of it, damaged and mixed, over connections that are not read.
    silent = []
    for _ in range(20):
        dealing = dealer(context, arguments)
        for _ in range(200):
            message = list(chance.choice(messages))
            chance.shuffle(message)
            try:
                dealing.send_multipart(message, zmq.NOBLOCK)
            except zmq.Again:
                break
        silent.append(dealing)
    # A client that sends what it has no credit for.
    dealing = dealer(context, arguments)
    dealing.send_multipart([file, zero, b"greedy", b"{}"])
    dealing.poll(10_000)
    for at in range(2000):
        try:
            dealing.send_multipart([chunk, zero, u64(at * 1000), b"x" * 1000], zmq.NOBLOCK)
        except zmq.Again:
            break
    # A chunk that is far too large, and bytes that are no ZeroMQ.
    huge_one = dealer(context, arguments)
    huge_one.send_multipart([chunk, zero, u64(0), b"x" * (64 << 20)])
    for _ in range(50):
        raw = socket.create_connection((arguments.host, arguments.port))
        try:
            raw.sendall(chance.randbytes(chance.randrange(1, 500)))
        except OSError:
            pass
        raw.close()
    time.sleep(1)
    print(json.dumps({"answers": answers}))
    sys.stdout.flush()
    os._exit(0 if answers else 1)


def enrol(arguments):
    zmq.auth.create_certificates(arguments.folder, arguments.name)
    print(json.dumps({}))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("enrol")
    making.add_argument("folder")
    making.add_argument("name")
    for name in ("upload", "hostile", "refused"):
        command = commands.add_parser(name)
        if name == "upload":
            command.add_argument("--name")
            command.add_argument("--meta", default="{}")
            command.add_argument("--timeout", type=int, default=30_000, help="in milliseconds")
            command.add_argument("--approval", type=int, default=30_000, help="in milliseconds")
            command.add_argument("--retries", type=int, default=120)
            command.add_argument("--cut-after", type=int, default=0, help="bytes")
            command.add_argument("--cuts", type=int, default=1)
            command.add_argument("--remove", nargs=2, action="append",
                                 help="with so many queries, remove this file")
            command.add_argument("--ignore-finished", type=int, default=0)
            command.add_argument("--repeat-last", action="store_true")
            command.add_argument("--data-in-last", action="store_true")
            command.add_argument("--wrong-sum", action="store_true")
        if name == "refused":
            command.add_argument("--identity", default="", help="hexadecimal")
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("server_key")
        command.add_argument("secret")
        command.add_argument("host")
        command.add_argument("port", type=int)
        if name == "upload":
            command.add_argument("file")
    arguments = parser.parse_args()
    run = {"enrol": enrol, "upload": upload, "hostile": hostile, "refused": refused}
    return run[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(main())
