"""Writers for Sombra in Python.

A program's writer holds its application still while a shadow copy is made. Derive
from Writer, and serve() it on a socket; see notes.py beside this file for a whole
one, and docs/writers/sdk.md for what the events mean. The modules imported from
sombra.writer.v1 are generated from proto/:

    protoc -I proto --python_out=DIR --grpc_out=DIR \\
        --plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin sombra/writer/v1/writer.proto

What is kept here for every writer, as the protocol asks: handlers run one at a
time, except abort, which may come beside another; a writer that is frozen when the
connection is lost, or its limit has passed, gets abort at once; a freeze that
returns too late is followed by abort; only root and the program's own user may
connect.
"""

import os
import socket
import stat
import struct
import tempfile
import threading
import uuid
import xml.etree.ElementTree as ET
from concurrent import futures
from xml.sax.saxutils import quoteattr

import grpc

from sombra.writer.v1 import writer_pb2 as pb
from sombra.writer.v1 import writer_pb2_grpc as rpc

RETRYABLE = 0x800423F3
NONRETRYABLE = 0x800423F4
TIMEOUT = 0x800423F2

# Values of event.state.type.
FULL, INCREMENTAL, DIFFERENTIAL, LOG, COPY = 1, 2, 3, 4, 5

MAX_MESSAGE = 32 << 20
RELEASE_SECONDS = 10


class Veto(Exception):
    """Raised by a handler that refuses."""

    def __init__(self, text, code=NONRETRYABLE):
        super().__init__(text)
        self.code = code


class Event:
    """An event as handlers see it; request has all that was sent."""

    def __init__(self, request):
        self.request = request
        self.state = request.state
        self.components = None
        if request.HasField("components"):
            self.components = ET.fromstring(request.components)

    def each_component(self):
        """The components of this writer that are in the backup, as elements."""
        return [] if self.components is None else [e for e in self.components.iter() if _local(e.tag) == "COMPONENT"]

    def succeeded(self):
        """For backup_complete: by name, whether all files of a component were saved."""
        return {e.get("componentName"): e.get("backupSucceeded") == "yes" for e in self.each_component()}


class Writer:
    """One writer. Set the fields, and override the handlers that matter."""

    class_id = None  # the same for ever: make one with uuid.uuid4()
    name = None
    instance_name = None  # what survives a restart
    component = None
    paths = ()  # directories, everything below
    stillness = pb.STILLNESS_FILES_STILL
    freeze_timeout = None  # seconds, if less than the service's

    def freeze(self, event):
        raise NotImplementedError

    def thaw(self, event):
        raise NotImplementedError

    def abort(self, event):
        """Back to normal from wherever it is. It may come twice. event may be None."""
        raise NotImplementedError

    def prepare_for_backup(self, event): ...

    def prepare_for_snapshot(self, event): ...

    def post_snapshot(self, event): ...

    def backup_complete(self, event): ...

    def backup_shutdown(self, event): ...

    def pre_restore(self, event): ...

    def post_restore(self, event): ...

    def identify(self):
        """The Writer Metadata Document."""
        files = "".join(
            '<FILE_LIST path=%s filespec="*" recursive="yes" filespecBackupType="3855"/>' % quoteattr(p) for p in self.paths
        )
        return (
            '<WRITER_METADATA xmlns="x-schema:#VssWriterMetadataInfo" version="1.2" backupSchema="16">'
            '<IDENTIFICATION writerId=%s instanceId=%s instanceName=%s friendlyName=%s usage="USER_DATA" dataSource="OTHER"/>'
            '<RESTORE_METHOD method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always" rebootRequired="no"/>'
            '<BACKUP_LOCATIONS><FILE_GROUP componentName=%s restoreMetadata="no" notifyOnBackupComplete="yes"'
            ' selectable="yes" selectableForRestore="yes" componentFlags="0">%s</FILE_GROUP></BACKUP_LOCATIONS></WRITER_METADATA>'
            % (*map(quoteattr, (self.class_id, self.instance_id, self.instance_name, self.name, self.component)), files)
        ).encode()

    def __init__(self):
        self.instance_id = str(uuid.uuid4())
        self._turn = threading.Lock()  # a handler other than abort runs
        self._aborting = threading.Lock()
        self._mu = threading.Lock()  # guards what follows
        self._owner = None  # the connection whose backup it is
        self._phase = "none"  # then backup, frozen, taken
        self._aborts = 0
        self._clock = None
        self._timed_out = None  # the session that held it for too long


def _local(tag):
    return tag.rsplit("}", 1)[-1]


class _Connection(rpc.WritersServicer):
    """The writer as one connection sees it."""

    def __init__(self, writer):
        self.w = writer

    def List(self, request, context):
        w = self.w
        d = pb.Description(stillness=w.stillness)
        if w.freeze_timeout:
            d.freeze_timeout.FromMilliseconds(int(w.freeze_timeout * 1000))
        return pb.ListResponse(instances=[pb.Instance(handle=1, instance_id=w.instance_id, class_id=w.class_id,
                                                      instance_name=w.instance_name, description=d)])

    def Identify(self, request, context):
        return pb.IdentifyResponse(document=self.w.identify())

    def PrepareForBackup(self, r, c):
        return self._event(r, c, self.w.prepare_for_backup, "backup", changes=True)

    def PrepareForSnapshot(self, r, c):
        return self._event(r, c, self.w.prepare_for_snapshot, "backup")

    def Freeze(self, r, c):
        return self._event(r, c, self._freeze, "frozen")

    def Thaw(self, r, c):
        return self._event(r, c, self._thaw)

    def PostSnapshot(self, r, c):
        return self._event(r, c, self.w.post_snapshot, after="taken", changes=True)

    def BackupComplete(self, r, c):
        return self._event(r, c, self.w.backup_complete)

    def BackupShutdown(self, r, c):
        return self._event(r, c, self.w.backup_shutdown, after="none")

    def PreRestore(self, r, c):
        return self._event(r, c, self.w.pre_restore, changes=True)

    def PostRestore(self, r, c):
        return self._event(r, c, self.w.post_restore, changes=True)

    def Abort(self, r, c):
        return _answer(lambda: self._abort(Event(r)))

    def _event(self, request, context, handler, before=None, after=None, changes=False):
        """Runs a handler in its turn. The phases say what the writer is owed if the
        connection is lost now."""
        w = self.w
        if not w._turn.acquire(timeout=max(0, context.time_remaining() or 60)):
            return _veto(TIMEOUT, "it is still busy with another event")
        try:
            with w._mu:
                if w._timed_out and w._timed_out == request.session_id:
                    return _veto(TIMEOUT, "it was not thawed in time, and went on by itself")
                if w._owner not in (None, self):
                    return _veto(RETRYABLE, "another session has the writer")
                if before:
                    w._owner, w._phase = self, before
                aborts = w._aborts
            event = Event(request)
            answer = _answer(lambda: handler(event))
            with w._mu:
                late = w._aborts != aborts
                if not late and after:
                    w._phase = after
                    if after == "none":
                        w._owner = None
            if late:  # what it did after abort must be undone, too
                self._abort(event)
                return _veto(RETRYABLE, "it was aborted")
            if changes and event.components is not None:
                answer.components = ET.tostring(event.components)
            return answer
        finally:
            w._turn.release()

    def _freeze(self, event):
        w = self.w
        limit = event.request.freeze_limit.ToSeconds() if event.request.HasField("freeze_limit") else 60
        if w.freeze_timeout:
            limit = min(limit, w.freeze_timeout)

        def over():
            with w._mu:
                w._timed_out = event.request.session_id
            self._abort(event)

        w._clock = threading.Timer(limit, over)
        w._clock.daemon = True
        w._clock.start()
        w.freeze(event)

    def _thaw(self, event):
        self.w.thaw(event)
        with self.w._mu:
            self.w._phase = "backup"
            self.w._clock.cancel()

    def _abort(self, event):
        w = self.w
        with w._mu:
            w._aborts += 1
            if w._clock:
                w._clock.cancel()
            if w._phase in ("backup", "frozen"):
                w._phase = "taken"
        with w._aborting:
            w.abort(event)

    def lost(self):
        """The connection has ended: nobody will thaw."""
        w = self.w
        with w._mu:
            mine, phase = w._owner is self, w._phase
        if not mine:
            return
        if phase in ("backup", "frozen"):
            self._abort(None)
        if w._turn.acquire(timeout=RELEASE_SECONDS):
            try:
                w.backup_shutdown(None)
            finally:
                w._turn.release()
        with w._mu:
            w._owner, w._phase = None, "none"


def _veto(code, text):
    return pb.EventResponse(veto=pb.Error(code=code, text=text))


def _answer(handler):
    try:
        handler()
    except Veto as v:
        return _veto(v.code, str(v))
    except Exception as e:  # a fault of the writer's is a failure of the backup, not the program's end
        return _veto(NONRETRYABLE, "%s: %s" % (type(e).__name__, e))
    return pb.EventResponse()


def listen(path):
    """Makes the socket, which only root and this user can use."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as s:
                if s.connect_ex(path) == 0:
                    raise OSError("another program listens at " + path)
            os.unlink(path)  # left by one that died
    except FileNotFoundError:
        pass
    s = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        s.bind(path)
    finally:
        os.umask(before)
    s.listen()
    return s


def serve(path, writer):
    """Serves a writer on a socket, whose name ends in .sock, for ever."""
    listener = listen(path)
    while True:
        conn, _ = listener.accept()
        uid = struct.unpack("3i", conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (0, os.geteuid()):
            conn.close()
            continue
        threading.Thread(target=_serve_connection, args=(conn, writer), daemon=True).start()


def _serve_connection(conn, writer):
    """A gRPC server for one connection alone, behind a socket nobody else can reach:
    gRPC does not tell a server that a connection has ended, which a writer must know."""
    c = _Connection(writer)
    with tempfile.TemporaryDirectory(prefix="writer-") as private:
        path = os.path.join(private, "s")
        options = [("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)]
        server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
        rpc.add_WritersServicer_to_server(c, server)
        server.add_insecure_port("unix:" + path)
        server.start()
        try:
            with conn, socket.socket(socket.AF_UNIX) as inner:
                inner.connect(path)
                back = threading.Thread(target=_pump, args=(inner, conn), daemon=True)
                back.start()
                _pump(conn, inner)
        finally:
            c.lost()
            server.stop(0)


def _pump(source, sink):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass
    for s in (source, sink):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
