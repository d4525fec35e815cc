// Package reboot has restored files take their places at the next start of a host
// that runs systemd, before anything uses them.
//
// The files of a set are staged: each lies under a hidden name in the directory
// it belongs in. [Stage.Commit] notes what they are in a file of its own in
// STATE/reboot and has systemd start [Store.Apply] at the next start, after local
// file systems are mounted and before all other services. That swaps them in.
//
// # What can be relied on
//
// All files of a set take their places, or none does. Before the first is touched
// all are checked: that they are there, that they are what was staged (type,
// size, SHA-256, owner, mode), and that no directory is in the place of one.
// Each is exchanged with what it replaces in one step, so that what it replaces is
// kept until all are swapped; if one cannot be, those before it are put back. A
// power cut in the middle is finished at the next start. A set that failed is
// kept, with the reason, and not tried again by itself: months later its files
// would replace newer ones.
//
// No name is followed through a symbolic link: directories are opened by the path
// they had when the set was committed, and a link that has come on the way since
// makes the set fail.
//
// # Format of the journal
//
// STATE/reboot is root's, mode 0700. Each set is a file ID.json in it, ID being a
// GUID, written under another name, synced, and renamed:
//
//	{"format": 1, "id": "...", "created": "2026-11-22T08:00:00Z", "what": "Writer: component",
//	 "state": "pending", "error": "...", "attempted": "...",
//	 "files": [{"directory": "/srv/app", "name": "app.db", "staged": ".sombra-...", "type": "file",
//	            "size": 8192, "sha256": "...", "mode": 416, "uid": 0, "gid": 0, "inode": 4711}]}
//
// A name that is not UTF-8 is {"base64": "..."} instead of a string. The states:
//
//	pending    waits for the next start
//	swapping   was begun with: each file is in its place, or still staged, as its
//	           inode and content tell; what it has replaced is under the staged name
//	swapped    all are in their places; what they have replaced is being removed
//	failed     nothing has changed; error and attempted tell why and when
//	withdrawn  its staged files are being removed
//
// ID.staging lists, one JSON object with directory and staged a line, what is
// staged for a set that is not committed yet. Whoever stages holds a lock on it;
// of one that nobody holds the files are removed. The file lock is locked (flock)
// by whoever changes anything.
//
// RUN (/run/sombra/at-reboot), which is empty after a start, has a file named ID
// for each set of the present run of the host: such a set is not swapped in yet,
// whoever may start the unit.
package reboot
