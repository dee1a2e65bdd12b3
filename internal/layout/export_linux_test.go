package layout

// MountName is the type of the mount in a line of mountinfo about device, ""
// when it is about another.
func MountName(line, device string) string {
	name, source, ok := parseMount(line, device)
	if !ok {
		return ""
	}
	return fuseName(name, source)
}

// DropIndex is what OpenUncached does before it opens.
func DropIndex(dir string) error { return dropIndex(dir) }
