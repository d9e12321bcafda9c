"""Puts a system to the test while people watch: tour, scenarios, flash sale, chaos, and the traffic that they share."""
