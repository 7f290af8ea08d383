package pipeline

import "testing"

// Nobody listens for a pipeline that has not asked for it.
func TestWantsServer(t *testing.T) {
	for text, want := range map[string]bool{
		"input: { stdin: {} }":  false,
		"http: {}":              true,
		"http: { enabled: no }": true, // what it says counts
		"input: { http_server: { address: 127.0.0.1:8080, path: /post } }":                   false,
		"input: { http_server: { path: /post } }":                                            true,
		"input: { http_server: { address: '' } }":                                            true,
		"input: { broker: { inputs: [ { stdin: {} }, { http_server: { path: /post } } ] } }": true,
		"output: { http_server: {} }":                                                        true,
		"pipeline: { processors: [ { mapping: 'root.http_server = 1' } ] }":                  false,
		": broken": false,
		"":         false,
	} {
		if got := WantsServer([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
