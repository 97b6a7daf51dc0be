"""Jobs on whole collections and their versions: delete, reindex, switch, and the sync between versions."""
