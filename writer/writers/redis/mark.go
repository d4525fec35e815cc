package redis

// markName is the file in which a restore notes what to start again.
const markName = ".sombra-restore"
