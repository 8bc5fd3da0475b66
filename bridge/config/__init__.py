"""The routing table's YAML: files with positions → models → RoutingTable, with every mistake at once."""
