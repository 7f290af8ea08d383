// Package draft looks at logs that nobody has described and writes a first pipeline over them: how their lines are written, where
// the time stands, which field names who did it, and a rule that counts by it and says something about these very lines.
//
// It goes by a sample (Look, one log at a time) and by what is usual: what it writes (Write) is YAML for people to go on with, and
// says in comments what was guessed. Read look.go, then kinds.go, rule.go and write.go.
package draft
