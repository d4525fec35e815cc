#!/usr/bin/python3
"""An application that keeps notes, with a writer: notes.py DIR SOCKET.

Each line of its input is a note. It is added to DIR/notes and DIR/journal, the
number of notes goes to DIR/count, and what was done is answered. The journal is
begun again when a backup that is not a copy has saved it.
"""

import os
import sys
import threading

import sombra_writer
from sombra_writer import COPY, DIFFERENTIAL

commits = threading.Lock()  # a commit holds it


class Notes(sombra_writer.Writer):
    class_id = "5b0c9a3e-3f0f-4a35-8a52-6f1f2d6f6a10"
    name = "Notes of Python"
    component = "notes"

    def __init__(self, directory):
        super().__init__()
        self.instance_name = directory
        self.paths = [directory]
        self.held = False

    def freeze(self, event):
        commits.acquire()
        self.held = True

    def thaw(self, event):
        if self.held:
            self.held = False
            commits.release()

    def abort(self, event):
        self.thaw(event)

    def backup_complete(self, event):
        if event.succeeded().get("notes") and event.state.type not in (COPY, DIFFERENTIAL):
            with commits:
                open(os.path.join(self.paths[0], "journal"), "w").close()


def add(directory, number, note):
    with commits:
        for name in "notes", "journal":
            with open(os.path.join(directory, name), "a") as f:
                f.write(note)
        with open(os.path.join(directory, "count"), "w") as f:
            f.write(str(number))


def main(writer, directory, path):
    threading.Thread(target=sombra_writer.serve, args=(path, writer), daemon=True).start()
    for number, note in enumerate(sys.stdin, 1):
        add(directory, number, note)
        print(number, "<nil>", flush=True)


if __name__ == "__main__":
    main(Notes(sys.argv[1]), *sys.argv[1:3])
