package elastic_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/elastic"
	"github.com/seed-98920119/tocsin/runtime/elastic/double"
)

func templateOf(t *testing.T, text string) elastic.Template {
	t.Helper()
	out := elastic.Template{Name: "tocsin.rows"}
	if err := json.Unmarshal([]byte(text), &out.Body); err != nil {
		t.Fatal(err)
	}
	return out
}

const rowsTemplate = `{"index_patterns":["rows*"],"priority":300,"data_stream":{},"template":{"settings":{"index":{"number_of_replicas":0,"mapping":{"ignore_malformed":true}}},
	"mappings":{"dynamic":false,"properties":{"ip":{"type":"ip"},"row":{"properties":{"n":{"type":"long"}}}}}},"_meta":{"tocsin":{"version":1}}}`

// A template is put once; what is another is said; what is not ours is left alone.
func TestInstall(t *testing.T) {
	s := double.New()
	defer s.Close()
	at, _ := url.Parse(s.URL)
	c := elastic.NewClient(elastic.Config{Hosts: []*url.URL{at}, Gzip: false, Timeout: time.Minute})
	s.Mappings = map[string]string{"rows-1": `{"mappings":{"properties":{"ip":{"type":"keyword"},"row":{"properties":{"m":{"type":"long"}}}}}}`, "other": `{"mappings":{"properties":{"ip":{"type":"text"}}}}`,
		"rows-2": `{"mappings":{"dynamic":"false","properties":{"ip":{"type":"ip"},"row":{"properties":{"n":{"type":"long"}}}}}}`}
	install := func(text, was string, changes ...string) {
		t.Helper()
		in, err := c.Install(t.Context(), templateOf(t, text), false)
		if err != nil || in.Was != was || !slices.Equal(in.Changes, changes) {
			t.Errorf("%v: %+v", err, in)
		}
		if text == rowsTemplate && !slices.Equal(in.Older, []string{"rows-1: ip is keyword, not ip; 1 fields are not in its mapping"}) {
			t.Errorf("%q", in.Older)
		}
	}
	install(rowsTemplate, "new")
	if !strings.Contains(s.Templates["tocsin.rows"], `"number_of_replicas":0`) {
		t.Error(s.Templates)
	}
	install(rowsTemplate, "unchanged")
	other := strings.NewReplacer(`"ip":{"type":"ip"},`, "", `"n":{"type":"long"}`, `"n":{"type":"double"}`, `"data_stream":{},`, "", `"number_of_replicas":0`, `"number_of_replicas":2`).Replace(rowsTemplate)
	install(other, "changed", "template.mappings.properties.ip.type: ip -> none", "template.mappings.properties.row.properties.n.type: long -> double",
		"template.settings.index.number_of_replicas: 0 -> 2", "data_stream: true -> false")
	install(other, "unchanged")
	s.Templates["tocsin.rows"] = strings.Replace(rowsTemplate, `"tocsin":{"version":1}`, `"owner":"ann"`, 1)
	if in, err := c.Install(t.Context(), templateOf(t, rowsTemplate), false); err == nil || !strings.Contains(err.Error(), "replace it with --force") || in.Was != "" {
		t.Errorf("%v %+v", err, in)
	}
	if !strings.Contains(s.Templates["tocsin.rows"], "ann") {
		t.Error("it was replaced")
	}
	if in, err := c.Install(t.Context(), templateOf(t, rowsTemplate), true); err != nil || in.Was != "changed" {
		t.Errorf("%v %+v", err, in)
	}
	s.Authorization = "Bearer x"
	if _, err := c.Install(t.Context(), templateOf(t, rowsTemplate), false); err == nil || !strings.Contains(err.Error(), "correct `auth`") {
		t.Error(err)
	}
	s.Close()
	if _, err := c.Install(t.Context(), templateOf(t, rowsTemplate), false); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
}
