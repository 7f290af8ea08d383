package operator

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A script of a join is what happens to it, a line each; what the join says stands indented beneath the line that caused it.
// Times are as in the scripts of windows.
//
//	join window left tumbling size=10s      also: interval lower=-1s upper=1s, ttl ttl=5s, as_of ttl=5s; right, full, semi, anti;
//	                                        first, count; hopping, cumulate; offset, slide, step; rows=2, pairs=2, keep_oldest
//	where {lv|gte: 3}                       lv and rv are the left and the right value
//	l 0:03 k a                              a left row of key k with value a; null is no key
//	r 0:04 k b                              of an as_of join "gone" and 9 end a version
//	wm 0:12                                 the watermark
//	end                                     of the input
//	restart                                 every state is saved and loaded; "restart whole" consolidates
//
// Rows: left right [matches] [window) at their time.
func playJoinScript(src string) string {
	var out strings.Builder
	var head []string
	var p *joinPlayer
	where := ""
	for _, line := range strings.Split(strings.TrimSuffix(src, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
			continue
		case words[0] == "join":
			head, where, p = words[1:], "", nil
			continue
		case words[0] == "where":
			where = strings.TrimPrefix(line, "where")
			continue
		}
		if p == nil {
			p = newJoinPlayer(joinShape(head), where)
		}
		for _, x := range playJoinLine(p, words) {
			out.WriteString("  " + x + "\n")
		}
	}
	return out.String()
}

func playJoinLine(p *joinPlayer, words []string) (said []string) {
	switch words[0] {
	case "l", "r":
		p.row(uint8(strings.Index("lr", words[0])), clock(words[1]), words[2], words[3])
	case "wm":
		p.fire(max(p.w, clock(words[1])))
	case "restart":
		p.keys.save(len(words) > 1)
		p.restart()
	case "end":
		w := p.w
		p.fire(PosInf)
		p.w = w // as another run would find it
	default:
		panic(words[0])
	}
	times := make([]string, len(p.c.Out))
	for i, r := range p.c.Out {
		times[i] = span(r.TS)
	}
	for i, text := range p.said() {
		said = append(said, text+" at "+times[i])
	}
	return said
}

func joinShape(words []string) Join {
	j := Join{RowsMax: CapDefault, MatchesMax: CapDefault, Window: &Window{}}
	for _, word := range words {
		name, v, _ := strings.Cut(word, "=")
		if to := map[string]*int64{"lower": &j.Lower, "upper": &j.Upper, "ttl": &j.TTL, "size": &j.Window.Size, "slide": &j.Window.Slide, "step": &j.Window.Slide, "offset": &j.Window.Offset}[name]; to != nil && v != "" {
			rest, neg := strings.CutPrefix(v, "-")
			if *to = length(rest); neg {
				*to = -*to
			}
			continue
		}
		n, _ := strconv.Atoi(v)
		kind := slices.Index([]string{"interval", "ttl", "window", "as_of"}, name)
		typ := slices.Index([]string{"inner", "left", "right", "full", "semi", "anti"}, name)
		window := slices.Index([]string{"tumbling", "hopping", "cumulate"}, name)
		switch {
		case kind >= 0:
			j.Kind = JoinKind(kind)
		case typ >= 0:
			j.Type = JoinType(typ)
		case window >= 0:
			j.Window.Kind = WindowKind(window)
		case name == "first" || name == "count":
			j.Matches = map[string]Matches{"first": FirstMatch, "count": CountMatches}[name]
		case name == "rows":
			j.RowsMax = n
		case name == "pairs":
			j.MatchesMax = n
		case name == "keep_oldest":
			j.Policy = KeepOldest
		default:
			panic(word)
		}
	}
	if j.Kind == Regular {
		j.Lower, j.Upper = -j.TTL, j.TTL
	}
	return j
}

// Each script in testdata/joins says what stands beneath its lines; -update writes it there, and a person reads the difference.
func TestJoinScripts(t *testing.T) { scripts(t, "testdata/joins/*.txt", 1, playJoinScript) }
