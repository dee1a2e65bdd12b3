package layout

import (
	"fmt"

	"github.com/sealift/sealift/artifact"
)

// IndexState says how index.json stands to what this program last committed.
type IndexState string

const (
	// IndexSound is an index.json that counts, as far as anybody can tell.
	IndexSound IndexState = ""
	// IndexTorn cannot be read as an index, or is not there: a slot counts instead,
	// and other programs read nothing.
	IndexTorn IndexState = "torn"
	// IndexBehind is the one before the last commit, which was cut off: its slot
	// counts, and other programs read what was there before.
	IndexBehind IndexState = "behind"
	// IndexChanged is not what the newest slot says: another program has changed it
	// since, and it counts.
	IndexChanged IndexState = "changed"
)

// IndexStanding is the state of one index.json.
type IndexStanding struct {
	Dir   string
	State IndexState
}

// TornIndexError says that index.json of a directory cannot be read as an index,
// though a slot tells what it held. It matches artifact.ErrDamaged.
type TornIndexError struct{ Dir string }

// Error names the directory.
func (e *TornIndexError) Error() string {
	return fmt.Sprintf("index.json of %s is torn; a copy of it was read, which other programs do not know of", e.Dir)
}

// Is reports whether target is artifact.ErrDamaged.
func (e *TornIndexError) Is(target error) bool { return target == artifact.ErrDamaged }

// Standings returns the state of every index.json that was not sound when the
// layout was opened, of volumes that were joined in their order.
func (l *Layout) Standings() []IndexStanding { return l.standings }

// standing is the state of the index.json that was read; torn says that it could not be.
func (st *state) standing(torn bool) IndexState {
	switch {
	case torn:
		return IndexTorn
	case st.carried != nil:
		return IndexBehind
	case st.newest != nil && st.newest.Generation == st.generation && st.newest.indexFile() != st.onDisk:
		return IndexChanged
	}
	return IndexSound
}
