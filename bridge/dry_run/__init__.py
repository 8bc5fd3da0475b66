"""What a table does with an event, without sending: tests, previews, differences. Pure."""
