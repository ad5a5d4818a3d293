"""The depot: MQTT subscriber, store, page."""
