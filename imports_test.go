package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/seed-98920119/tocsin"

// The direction of imports, from the command line down. A package may import what stands after it.
var layers = []struct {
	path string
	may  []string
	why  string
}{
	{"/runtime/cli", []string{"/runtime/pipeline", "/runtime/draft", "/runtime/engine", "/runtime/event"}, "commands put Benthos and our components together; they decide nothing about events"},
	{"/runtime/pipeline", []string{"/runtime/engine", "/runtime/kafka", "/runtime/elastic", "/runtime/bigquery", "/runtime/credential", "/runtime/retry", "/runtime/wasm", "/abi", "/runtime/operator", "/runtime/state", "/runtime/table", "/runtime/match", "/runtime/alert", "/runtime/event"}, "Benthos components and YAML; the one place that knows both Benthos and the engine"},
	{"/runtime/draft", []string{"/runtime/event"}, "reads logs and writes text; whether that is a pipeline the linter says"},
	{"/runtime/pipeline/mailbox", nil, "a server for tests; what it is must not come from what it tests"},
	{"/runtime/engine", []string{"/runtime/operator", "/runtime/state", "/runtime/wasm", "/abi", "/runtime/table", "/runtime/match", "/runtime/alert", "/runtime/event"}, "must run without Benthos, so that it can be tested and embedded without it"},
	{"/runtime/operator", []string{"/runtime/match", "/runtime/event"}, "pure functions on one key's state: no goroutine, no clock, no storage"},
	{"/runtime/state", []string{"/runtime/event"}, "knows bytes and Badger, and nothing of what the bytes mean"},
	{"/runtime/wasm", []string{"/runtime/event", "/abi"}, "the sandbox: rows in, hits out; it knows neither graphs nor storage"},
	{"/runtime/kafka", []string{"/runtime/event", "/runtime/credential"}, "records in and out as blocks and rows; what they mean, and where positions are kept, others know"},
	{"/runtime/credential", nil, "where secrets are; nobody's business but of those who connect"},
	{"/runtime/retry", nil, "pauses, for whoever asks a server"},
	{"/runtime/elastic", []string{"/runtime/retry"}, "documents in, what became of them out; what they mean others know"},
	{"/runtime/elastic/double", nil, "a server for tests; what it is must not come from what it tests"},
	{"/runtime/bigquery", []string{"/runtime/event", "/runtime/retry"}, "rows in, what became of them out; what they mean, and of which pipeline they are, others know"},
	{"/runtime/bigquery/double", nil, "a server for tests; what it is must not come from what it tests"},
	{"/runtime/table", []string{"/runtime/match", "/runtime/event"}, "what files know: it reads addresses as conditions do, and knows nothing of operators"},
	{"/runtime/alert", []string{"/runtime/event"}, "a form, used by every kind of rule"},
	{"/runtime/match", []string{"/runtime/event"}, "conditions are compiled once and read rows of any kind"},
	{"/runtime/event", nil, "everything stands on it"},
	{"/abi", nil, "the contract with plugins; others build on it, so it needs the standard library alone"},
}

// outside says which packages alone may import a module.
var outside = map[string][]string{
	"github.com/dgraph-io/badger":      {"/runtime/state"},
	"github.com/redpanda-data/benthos": {"/runtime/pipeline", "/runtime/cli"},
	"github.com/twmb/franz-go":         {"/runtime/kafka"},
	"github.com/prometheus":            {"/runtime/pipeline"},
	"github.com/klauspost/compress":    {"/runtime/elastic", "/runtime/pipeline", "/runtime/state"},
	"gopkg.in/yaml.v3":                 {"/runtime/pipeline", "/runtime/match"},
	"github.com/tetratelabs/wazero":    {"/runtime/wasm"},
	"github.com/santhosh-tekuri":       {"/runtime/wasm", "/runtime/event"},
	"github.com/bufbuild/protocompile": {"/runtime/event"},
	"github.com/hamba/avro":            {"/runtime/event"},
	"github.com/elastic/go-grok":       {"/runtime/event"},
	"github.com/oschwald":              {"/runtime/table"},
	"github.com/wneessen/go-mail":      {"/runtime/pipeline"},
	"cloud.google.com/go/bigquery":     {"/runtime/bigquery", "/runtime/bigquery/double"},
	"google.golang.org/grpc":           {"/runtime/bigquery", "/runtime/bigquery/double"},
	"golang.org/x/oauth2":              {"/runtime/bigquery"},
}

func TestImportsPointDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./runtime/...", "./abi").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[0], module)
		i := slices.IndexFunc(layers, func(l struct {
			path string
			may  []string
			why  string
		}) bool {
			return l.path == pkg
		})
		if i < 0 {
			t.Errorf("%s has no place in the layers; give it one, with a reason", pkg)
			continue
		}
		known++
		for _, imp := range words[1:] {
			if own, ok := strings.CutPrefix(imp, module); ok && !slices.Contains(layers[i].may, own) {
				t.Errorf("%s must not import %s: %s", pkg, own, layers[i].why)
			}
			for prefix, who := range outside {
				if strings.HasPrefix(imp, prefix) && !slices.Contains(who, pkg) {
					t.Errorf("%s must not import %s; only %v may", pkg, imp, who)
				}
			}
		}
	}
	if known != len(layers) {
		t.Errorf("%d packages of %d found", known, len(layers))
	}
}
