// Package systemd stops and starts services of a host that runs systemd, and
// writes what goes into its unit files.
//
// It runs systemctl, by which everything is said that is needed here and whose
// options and "show" output are promised to stay; with an environment of its
// own, so that nothing in the caller's changes what it does.
//
// The names of services come from documents on a backup's medium. Only names of
// services are taken, none of systemd's own, and none whose stop would end this
// very process.
package systemd
