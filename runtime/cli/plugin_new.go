package cli

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// templates are the folders of new rules: those of a language, and what all have. NAME, TITLE and SDK stand for the name, the name with
// dashes, and the way to the SDKs. Files of Go end with .txt, or they would be a module here.
//
//go:embed new
var templates embed.FS

var pluginName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

func (e *env) pluginNew(args []string) int {
	f := e.flags("tocsin plugin new")
	lang, sdk := f.String("lang", "c", ""), f.String("sdk", "sdk", "")
	err := f.Parse(args)
	switch name := f.Arg(0); {
	case err != nil:
	case f.NArg() != 1:
		err = errors.New("it needs one name")
	case !pluginName.MatchString(name):
		err = fmt.Errorf("the name is %q; it must be lower-case letters, digits and _, and begin with a letter", name)
	case !slices.Contains([]string{"c", "rust", "go"}, *lang):
		err = fmt.Errorf("there is no --lang %s; there are c, rust and go", *lang)
	default:
		err = newPlugin(name, *lang, *sdk)
	}
	if err != nil {
		e.say("%s: %v; see `tocsin help plugin`", f.Name(), err)
		return wrong
	}
	fmt.Fprintf(e.out, "%[1]s: a rule, its manifest and its cases. Next:\n  %[1]s/build.sh\n  tocsin plugin test %[1]s/%[1]s.wasm\n", f.Arg(0))
	return done
}

// newPlugin writes the folder of a rule, which must not be there.
func newPlugin(name, lang, sdk string) error {
	if _, err := os.Stat(filepath.Join(sdk, lang)); err != nil {
		return fmt.Errorf("%w; --sdk says where the folder sdk of Tocsin's sources is", err)
	}
	full, err := filepath.Abs(sdk)
	if err != nil {
		return err
	}
	here, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(here, full); err == nil && strings.Count(rel, "..") < 4 { // close by: they may move together
		full = filepath.ToSlash(rel)
	}
	if err := os.Mkdir(name, 0o755); err != nil {
		return err
	}
	fill := strings.NewReplacer("NAME", name, "TITLE", strings.ReplaceAll(name, "_", "-"), "SDK", full)
	for _, from := range []string{"new/" + lang, "new"} {
		if err := writeTemplates(from, name, fill); err != nil {
			return err
		}
	}
	return nil
}

// writeTemplates fills the files of a folder of templates; of the folders in "new" each is another language.
func writeTemplates(from, to string, fill *strings.Replacer) error {
	return fs.WalkDir(templates, from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if from == "new" && p != from {
				return fs.SkipDir
			}
			return nil
		}
		b, err := templates.ReadFile(p)
		if err != nil {
			return err
		}
		out := filepath.Join(to, filepath.FromSlash(fill.Replace(strings.TrimSuffix(strings.TrimPrefix(p, from+"/"), ".txt"))))
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if path.Base(p) == "build.sh" {
			mode = 0o755
		}
		return os.WriteFile(out, []byte(fill.Replace(string(b))), mode)
	})
}
