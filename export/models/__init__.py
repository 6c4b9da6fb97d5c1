"""The networks: a module a family, each readable in one sitting."""
