package cli

import (
	"os"
	"sync"

	rekorlog "github.com/sigstore/rekor/pkg/log"
)

// quietLibraries takes the logger of rekor, which prints what stands in the log entries
// of bundles, from the terminal: nobody has verified them by then, and standard error
// is the program's own. It can be told where to write only by what standard error is
// when it is made.
var quietLibraries = sync.OnceFunc(func() {
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return // a system without it
	}
	terminal := os.Stderr
	os.Stderr = nowhere
	defer func() { os.Stderr = terminal }()
	rekorlog.ConfigureLogger("prod", "")
})
