"""Where generation and training happen. An engine has two verbs, both pure functions of their arguments."""
