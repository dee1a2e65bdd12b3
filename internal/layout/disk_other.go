//go:build !unix

package layout

// canSyncDir is false where a directory cannot be opened for flushing.
const canSyncDir = false
