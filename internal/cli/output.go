package cli

import "github.com/spf13/cobra"

// outputTopic explains what goes where and how programs read it, as sealift help
// output.
func outputTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "output",
		Short: "What is written where, and how programs read it",
		Long: `Results go to standard output, all else to standard error. Progress is shown as bars
on a terminal, unless TERM is dumb or NO_COLOR is set, and elsewhere as a line every
five seconds. -q leaves only results, warnings and errors.

With -o json a result is one JSON document, headed by its apiVersion. Standard error
has one JSON object a line, each with a type. Fields may be added, never changed.

  {"type":"message","text":…}    also warning and question
  {"type":"error","code":12,"error":…,"hint":…}
    the last line of a command that failed; code is the exit status; damage lists
    what verify found, blob by blob
  {"type":"progress","verb":"copying","bytes":…,"total":…,"rate":…,"eta":…,"blobs":…,"totalBlobs":…}
    once a second at most, while content is copied, verified or checked: bytes and
    blobs done, those that were there before included, of how many; the bytes a
    second of the last ten seconds; and the seconds left, unless nobody can tell
  {"type":"blob","verb":"copying","digest":…,"size":…,"mediaType":…,"state":"started"}
    what happens to each blob or manifest: started, then retrying as often as need
    be (with error, and wait in seconds), then stored, failed (with error), or, while
    media is verified, absent (with reason): it is not there, and need not be`,
	}
}
