package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The pages that are committed are what the specifications say.
func TestPages(t *testing.T) {
	pages, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if pages[name] == nil {
			t.Errorf("%s is of no component; run go generate ./docs/reference", name)
		}
	}
	for name, page := range pages {
		if text, err := os.ReadFile(name); err != nil || !bytes.Equal(text, page) {
			t.Errorf("%s is not what the specification says; run go generate ./docs/reference (%v)", name, err)
		}
	}
}

// Every component says what it is and has a whole pipeline as an example; every field says what it is.
func TestSpecifications(t *testing.T) {
	all, err := components()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 12 {
		t.Errorf("%d components are registered", len(all))
	}
	for _, c := range all {
		if c.Summary == "" || c.Description == "" {
			t.Errorf("%s %s does not say what it is", c.Type, c.Name)
		}
		if len(c.Examples) == 0 || !strings.Contains(c.Examples[0].Config, "input:") || !strings.Contains(c.Examples[0].Config, "output:") {
			t.Errorf("the first example of %s %s is no whole pipeline", c.Type, c.Name)
		}
		for _, e := range c.Examples {
			if e.Title == "" || !strings.Contains(e.Config, c.Name+":") {
				t.Errorf("%s %s: an example without a title, or of something else: %q", c.Type, c.Name, e.Title)
			}
		}
		described(t, c.Name, c.Config.Children)
	}
}

func described(t *testing.T, in string, fields []field) {
	for _, f := range fields {
		if len(f.Description) < 10 || !strings.HasSuffix(f.Description, ".") {
			t.Errorf("%s.%s says no more than %q", in, f.Name, f.Description)
		}
		described(t, in+"."+f.Name, f.Children)
	}
}

// What is gone is removed, and nothing else.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"gone.md", "main.go"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"gone.md": false, "main.go": true, "README.md": true, "file_lines.md": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
