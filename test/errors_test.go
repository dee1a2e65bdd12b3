package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// An error whose text has several lines says so by a method Lines; what is printed
// otherwise is one line. Two types have their lines known by name.
func TestErrorLines(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"FindingsError": true}
	joins, lines := map[string]string{}, map[string]bool{}
	set := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			if d != nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
				return fs.SkipDir
			}
			return err
		}
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil {
				continue
			}
			name := receiver(f.Recv.List[0].Type)
			switch {
			case f.Name.Name == "Lines":
				lines[name] = true
			case f.Name.Name == "Error" && f.Type.Params.NumFields() == 0 && joinsLines(f):
				joins[name] = path
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(joins) < 3 {
		t.Fatalf("errors of several lines: %v, want at least those of templates, values and repairs", joins)
	}
	for name, path := range joins {
		if !lines[name] && !known[name] {
			t.Errorf("%s: the error %s has several lines and no method Lines", path, name)
		}
	}
}

func receiver(e ast.Expr) string {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// joinsLines reports whether a method has the end of a line in a string.
func joinsLines(f *ast.FuncDecl) bool {
	found := false
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && strings.Contains(lit.Value, `\n`) {
			found = true
		}
		return !found
	})
	return found
}
