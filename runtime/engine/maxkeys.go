package engine

import (
	"fmt"

	"github.com/seed-98920119/tocsin/runtime/operator"
)

// max_keys spans the keys of all shards, and whether a key is one too many depends on what the others hold at the row's position.
// While there is room for a key a row, nothing depends on it, and shards run side by side as ever. Otherwise the shards run as
// one: row by row, in order of position, each after everything that is due before it in any of them.

// limitKeys tells the shards of an operator with max_keys to count. A plugin is refused new keys, a window's rows of them are turned away.
func (n *node) limitKeys() {
	most := n.spec.maxKeys()
	if most == 0 {
		return
	}
	late := n.spec.Window != nil && n.spec.Window.KeysLate
	for _, s := range n.shards {
		s.(cappedShard).limit(late, fmt.Sprintf("%d keys hold something already, as many as max_keys says", most))
	}
}

// crowded says whether so many rows could bring more keys than there may be.
func (n *node) crowded(rows int) bool {
	most := n.spec.maxKeys()
	return most > 0 && n.held()+rows > most
}

func (n *node) held() (keys int) {
	for _, s := range n.shards {
		keys += s.(cappedShard).keys()
	}
	return keys
}

// asOne runs the shards as one.
func (n *node) asOne() error {
	for {
		var first cappedShard
		var row *operator.In
		for _, s := range n.shards {
			if x := s.(cappedShard).head(); x != nil && (row == nil || x.Idx < row.Idx) {
				first, row = s.(cappedShard), x
			}
		}
		if row == nil {
			break
		}
		for _, s := range n.shards {
			if err := s.(cappedShard).until(row.W, n.steps); err != nil {
				return err
			}
		}
		if err := first.take(n.held() >= n.spec.maxKeys()); err != nil {
			return err
		}
	}
	for _, s := range n.shards {
		if err := s.(cappedShard).finish(n.w.w, n.steps); err != nil {
			return err
		}
	}
	return nil
}
