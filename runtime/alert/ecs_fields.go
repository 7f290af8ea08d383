package alert

// ECSTypes are the types, as Elasticsearch has them, of the schema's fields that ECS writes. What stands under tocsin is not among them.
func ECSTypes() map[string]string {
	types := map[string]string{}
	for typ, fields := range map[string][]string{
		"date":  {"@timestamp", "event.end", "event.start"},
		"ip":    {"destination.ip", "related.ip", "source.ip"},
		"long":  {"event.severity"},
		"float": {"event.risk_score", "host.risk.calculated_score", "user.risk.calculated_score"},
		"keyword": {"destination.address", "destination.domain", "ecs.version", "email.from.address", "email.to.address", "event.category", "event.code", "event.dataset", "event.id", "event.kind",
			"event.module", "event.original", "event.provider", "event.reason", "event.type", "file.name", "file.path", "host.name", "observer.product", "observer.vendor", "process.executable",
			"process.name", "related.hash", "related.hosts", "related.user", "rule.id", "rule.name", "rule.reference", "rule.ruleset", "rule.version", "source.address", "source.domain",
			"threat.framework", "threat.tactic.id", "threat.tactic.name", "threat.technique.id", "threat.technique.name", "threat.technique.subtechnique.id", "threat.technique.subtechnique.name",
			"user.email", "user.name", "user.target.name"},
		"match_only_text": {"message"},
		"wildcard":        {"process.command_line", "url.original"},
	} {
		for _, f := range fields {
			types[f] = typ
		}
	}
	return types
}
