"""The routing table's YAML: files with positions -> shapes -> RoutingTable, every mistake at once."""
