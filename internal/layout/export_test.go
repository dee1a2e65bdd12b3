package layout

// Internals the tests of package layout_test look at.
var (
	ParseIndex  = parseIndex
	FormatIndex = formatIndex
	ParseSlot   = parseSlot
	SplitName   = splitName
	LocalName   = localName
)

// SlotIndex parses a slot and formats its index again.
func SlotIndex(raw []byte) ([]byte, error) {
	_, index, err := parseSlot(raw)
	if err != nil {
		return nil, err
	}
	return formatIndex(index)
}
