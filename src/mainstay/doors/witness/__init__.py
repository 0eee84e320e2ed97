"""How sites speak to a witness process: two verbs on one record. See `cluster.witness.process`."""
