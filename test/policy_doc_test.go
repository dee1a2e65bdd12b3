package test

import (
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// linkShaped matches what an author meant as a link to something exported.
var linkShaped = regexp.MustCompile(`\[\*?([\w/]+\.)*[A-Z]\w*\]`)

// TestDocLinks fails when a comment links to a name that is not there: a reader
// would look for it in vain, and nothing else notices a renaming.
func TestDocLinks(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		if strings.HasPrefix(p.ImportPath, outside) {
			continue
		}
		fset := token.NewFileSet()
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		for _, dangling := range danglingLinks(t, fset, files, p.ImportPath) {
			t.Error(dangling)
		}
	}
}

func TestDocLinksBite(t *testing.T) {
	t.Parallel()
	src := "// Package p has [T], [T.F], [T.M], [io.Reader], not [Nobody].\npackage p\nimport \"io\"\n" +
		"// T is an [io.Writer].\ntype T struct {\n// F is [T.Gone].\nF io.Writer\n}\n// M is no a[I].\nfunc (T) M() {}\n"
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "planted.go", src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	got := danglingLinks(t, fset, []*ast.File{f}, module+"p")
	if len(got) != 2 || !strings.HasSuffix(got[0], "[Nobody]") || !strings.HasSuffix(got[1], "[T.Gone]") {
		t.Errorf("danglingLinks(planted) = %q, want [Nobody] and [T.Gone]", got)
	}
}

// danglingLinks returns the places of links in the comments of a package that
// lead nowhere.
func danglingLinks(t *testing.T, fset *token.FileSet, files []*ast.File, path string) (found []string) {
	t.Helper()
	// Comments are taken before go/doc, which takes the files apart.
	type remark struct{ at, text string }
	var remarks []remark
	for _, f := range files {
		for _, group := range f.Comments {
			remarks = append(remarks, remark{fset.Position(group.Pos()).String(), group.Text()})
		}
	}
	p, err := doc.NewFromFiles(fset, files, path, doc.AllDecls|doc.PreserveAST)
	if err != nil {
		t.Fatal(err)
	}
	parse := p.Parser()
	for _, r := range remarks {
		for _, block := range parse.Parse(r.text).Content {
			for _, link := range linkShaped.FindAllString(plainText(block), -1) {
				found = append(found, r.at+": nothing is called "+link)
			}
		}
	}
	return found
}

// plainText returns the words of a block that are no links, code left out.
func plainText(block comment.Block) string {
	var b strings.Builder
	switch x := block.(type) {
	case *comment.Paragraph:
		for _, text := range x.Text {
			if plain, ok := text.(comment.Plain); ok {
				b.WriteString(string(plain))
			} else {
				b.WriteString("·")
			}
		}
	case *comment.List:
		for _, item := range x.Items {
			for _, inner := range item.Content {
				b.WriteString(plainText(inner) + "\n")
			}
		}
	}
	// An index is no link.
	return regexp.MustCompile(`\w\[\w+\]`).ReplaceAllString(b.String(), "")
}
