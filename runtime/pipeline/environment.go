package pipeline

import (
	"os"
	"regexp"
)

func lookupEnv(name string) (string, bool) { return os.LookupEnv(name) }

var withDefault = regexp.MustCompile(`\$\{([A-Za-z0-9_]+)(?::([^}]*))?\}`)

// fillVariables fills in ${NAME} and ${NAME:default}.
func fillVariables(s string) string {
	return withDefault.ReplaceAllStringFunc(s, func(m string) string {
		parts := withDefault.FindStringSubmatch(m)
		if v, ok := os.LookupEnv(parts[1]); ok && v != "" {
			return v
		}
		return parts[2]
	})
}
