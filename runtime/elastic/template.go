package elastic

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Template is an index template: what a new index gets whose name fits its index_patterns. Its _meta says `tocsin`, by which it is known
// again. Body is JSON as the servers take it, of maps, lists, texts, numbers and booleans.
type Template struct {
	Name string
	Body map[string]any
}

// Installed says what became of a template, and what of the cluster it does not reach.
type Installed struct {
	Name    string
	Was     string   // new, changed or unchanged
	Changes []string // of one that was changed: a field of it, then what it was and is
	Older   []string // indexes that are there and have another mapping, with what is another
}

// Install puts a template unless it is there already. One of the same name that is not ours is left alone, without force. What is there
// already keeps the mapping that it has: Older names it.
func (c *Client) Install(ctx context.Context, t Template, force bool) (in Installed, err error) {
	in.Name = t.Name
	ours := flat(t.Body)
	theirs, there, err := c.template(ctx, t.Name)
	if err != nil {
		return in, err
	}
	if in.Changes = differences(theirs, ours); there && len(in.Changes) > 0 && !force && !slices.ContainsFunc(slices.Collect(maps.Keys(theirs)), func(p string) bool { return strings.HasPrefix(p, "_meta.tocsin") }) {
		return in, fmt.Errorf("a template %s is there that is not of tocsin; rename it, or replace it with --force", t.Name)
	}
	was := "changed"
	switch {
	case !there:
		was, in.Changes = "new", nil
	case len(in.Changes) == 0:
		was = "unchanged"
	}
	if was != "unchanged" {
		body, err := json.Marshal(t.Body)
		if err != nil {
			return in, err
		}
		if a := c.do(ctx, http.MethodPut, "/_index_template/"+url.PathEscape(t.Name), body); a.err != nil || a.status != http.StatusOK {
			return in, refusedTemplate(a, t.Name)
		}
	}
	in.Was = was
	in.Older, err = c.older(ctx, t.Body)
	return in, err
}

// template is what the cluster has under a name, by path.
func (c *Client) template(ctx context.Context, name string) (fields map[string]string, there bool, err error) {
	a := c.do(ctx, http.MethodGet, "/_index_template/"+url.PathEscape(name), nil)
	if a.err == nil && a.status == http.StatusNotFound {
		return nil, false, nil
	}
	if a.err != nil || a.status != http.StatusOK {
		return nil, false, refusedTemplate(a, name)
	}
	var got struct {
		Templates []struct {
			Template map[string]any `json:"index_template"`
		} `json:"index_templates"`
	}
	if err := json.Unmarshal(a.body, &got); err != nil || len(got.Templates) != 1 {
		return nil, false, fmt.Errorf("%s: an answer about the template %s that is none: %s", a.host, name, short(string(a.body)))
	}
	return flat(got.Templates[0].Template), true, nil
}

// refusedTemplate says why a request about templates was not answered, and what to do.
func refusedTemplate(a answer, name string) error {
	switch {
	case a.err != nil:
		return explain(a)
	case a.status == http.StatusUnauthorized:
		return fmt.Errorf("%s does not let us in: %s; correct `auth`", a.host, a.reason())
	case a.status == http.StatusForbidden:
		return fmt.Errorf("%s: template %s: %s; it needs the privilege manage_index_templates (Elasticsearch) or indices:admin/index_template/* (OpenSearch), and view_index_metadata of the indexes: "+
			"install with another user, or give the output of --print to somebody who has it", a.host, name, a.reason())
	case strings.Contains(string(a.body), "same priority"):
		return fmt.Errorf("%s: template %s: %s; take another --priority", a.host, name, a.reason())
	}
	return fmt.Errorf("%s: template %s: %s", a.host, name, a.reason())
}

// older finds indexes that a template would fit and that have other types.
func (c *Client) older(ctx context.Context, body map[string]any) (older []string, err error) {
	want := flat(map[string]any{"mappings": body["template"].(map[string]any)["mappings"]})
	for _, pattern := range body["index_patterns"].([]any) {
		a := c.do(ctx, http.MethodGet, "/"+strings.ReplaceAll(url.PathEscape(pattern.(string)), "%2A", "*")+"/_mapping?allow_no_indices=true&ignore_unavailable=true", nil)
		if a.err == nil && a.status == http.StatusNotFound {
			continue
		}
		if a.err != nil || a.status != http.StatusOK {
			return older, refusedTemplate(a, pattern.(string))
		}
		var got map[string]map[string]any
		if err := json.Unmarshal(a.body, &got); err != nil {
			return older, fmt.Errorf("%s: an answer about mappings that is none: %s", a.host, short(string(a.body)))
		}
		for _, index := range slices.Sorted(maps.Keys(got)) {
			if text := otherTypes(flat(got[index]), want); text != "" {
				older = append(older, index+": "+text)
			}
		}
	}
	return older, nil
}

// otherTypes says which fields of a mapping have another type, the first few by name, and how many it does not have.
func otherTypes(have, want map[string]string) string {
	const most = 5
	var parts []string
	missing := 0
	for _, path := range slices.Sorted(maps.Keys(want)) {
		switch {
		case !strings.HasSuffix(path, ".type") || have[path] == want[path]:
		case have[path] == "":
			missing++
		default:
			field := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(path, "mappings.properties."), ".type"), ".properties.", ".")
			parts = append(parts, fmt.Sprintf("%s is %s, not %s", field, have[path], want[path]))
		}
	}
	if n := len(parts) - most; n > 0 {
		parts = append(parts[:most], fmt.Sprintf("so are %d more", n))
	}
	if missing > 0 {
		parts = append(parts, fmt.Sprintf("%d fields are not in its mapping", missing))
	}
	return strings.Join(parts, "; ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// differences are what a template has another value for, ours beside theirs. What the server adds of its own beside settings and mappings is none.
func differences(theirs, ours map[string]string) (changes []string) {
	paths := maps.Clone(ours)
	for p := range theirs {
		if strings.HasPrefix(p, "template.mappings.") || strings.HasPrefix(p, "template.settings.") {
			paths[p] = ""
		}
	}
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		if p != "data_stream" && theirs[p] != ours[p] {
			changes = append(changes, fmt.Sprintf("%s: %s -> %s", p, orNone(theirs[p]), orNone(ours[p])))
		}
	}
	_, was := under(theirs, "data_stream")
	if _, is := under(ours, "data_stream"); was != is {
		changes = append(changes, fmt.Sprintf("data_stream: %t -> %t", was, is))
	}
	return changes
}

// under says whether there is something at or below a path.
func under(fields map[string]string, path string) (at string, ok bool) {
	for p := range fields {
		if p == path || strings.HasPrefix(p, path+".") {
			return p, true
		}
	}
	return "", false
}

// flat is an object by path: servers give settings back as texts, in another order. An empty object is a value.
func flat(object map[string]any) map[string]string {
	out := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		m, ok := v.(map[string]any)
		for name, x := range m {
			walk(strings.TrimPrefix(path+"."+name, "."), x)
		}
		switch list := v.(type) {
		case nil:
		case map[string]any:
			if len(m) == 0 {
				out[path] = "{}"
			}
		case []any:
			text, _ := json.Marshal(list) // it came of JSON
			out[path] = string(text)
		default:
			if !ok {
				out[path] = fmt.Sprint(v)
			}
		}
	}
	walk("", object)
	return out
}
