// Package hooks is a writer made of scripts: those of a directory in the
// convention of QEMU's fsfreeze-hook.d, each called with "freeze" before the
// shadow copy and with "thaw" after it. People's scripts work as they are.
//
// A script's word is worth less than a live connection's: nothing shows that
// files are really still, and what a script has frozen stays so if everything
// else dies. The writer says so in its description, and plan and record show
// it. docs/writers/hooks.md is for those who write scripts.
package hooks
