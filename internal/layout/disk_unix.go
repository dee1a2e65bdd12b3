//go:build unix

package layout

const canSyncDir = true
