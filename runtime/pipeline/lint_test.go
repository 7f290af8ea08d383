package pipeline

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"gopkg.in/yaml.v3"
)

// digests of modules, which change when they are built anew.
var digest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// Each broken pipeline says in its first lines what must be found, "# want line:column text" (WD is the working directory);
// nothing else may be.
func TestBrokenPipelines(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, line := range strings.Split(string(src), "\n") {
				if text, ok := strings.CutPrefix(line, "# want "); ok {
					want = append(want, text)
				}
			}
			_, findings := Check(file, src)
			var got []string
			for _, f := range findings {
				text := strings.ReplaceAll(digest.ReplaceAllString(f.Text, "sha256:DIGEST"), wd, "WD")
				got = append(got, fmt.Sprintf("%d:%d %s", f.Line, f.Column, text))
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") || len(want) == 0 {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestQuickstartIsClean(t *testing.T) {
	t.Chdir("../..") // the module's path is relative to it
	src, err := os.ReadFile("pipelines/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	conf, findings := Check("quickstart.yaml", src)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	s := conf.Spec
	if s.Name != "quickstart" || len(s.Streams) != 2 || len(s.Operators) != 3 || !s.Streams[0].Strict {
		t.Errorf("%+v", s)
	}
	if w := s.Operators[0].Window; w == nil || w.Size != 20_000 || s.Operators[0].Leaves {
		t.Errorf("%+v", s.Operators[0])
	}
	if p := s.Operators[1].Plugin; p == nil || p.Module.Manifest.Name != "tocsin.brute-force" || string(p.Config) != `{"threshold":5}` || !s.Operators[1].Leaves {
		t.Errorf("%+v", s.Operators[1])
	}
	if j := s.Operators[2].Join; j == nil || j.Lower != -3_600_000 || j.Upper != 3_600_000 || len(j.Outputs) != 4 || j.Outputs[2].Side != 0 {
		t.Errorf("%+v", s.Operators[2])
	}
}

// Any YAML ends in a Config or in problems.
func FuzzDecode(f *testing.F) {
	src, err := os.ReadFile("../../pipelines/quickstart.yaml")
	if err != nil {
		f.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(src, &root); err != nil {
		f.Fatal(err)
	}
	text, _ := yaml.Marshal(peek(peek(root.Content[0], "buffer"), "detect"))
	f.Add(string(text))
	f.Add("{name: a, state: s, streams: {s: {time: {field: t}}}, operators: {o: {join: {left: s, right: o, on: [], within: 1h}}}}")
	f.Add("{name: a, state: s, streams: {s: {time: {field: t}}}, operators: {o: {sequence: {by: k, within: 1m, steps: [{from: s}, {from: s, as: b, missing: true}]}}}}")
	f.Add("{name: a, streams: [], operators: {a: {window: {from: [[x]], tumbling: -5s, aggregate: {n: {sum: [1]}}}}, b: {join: 5}}}")
	f.Fuzz(func(t *testing.T, text string) {
		var n yaml.Node
		if yaml.Unmarshal([]byte(text), &n) != nil || len(n.Content) == 0 {
			return
		}
		conf, problems := DecodeDetect(n.Content[0])
		if len(problems) == 0 && (conf.Spec.Name == "" || len(conf.Spec.Operators) == 0) {
			t.Fatalf("no problem with %q", text)
		}
	})
}
