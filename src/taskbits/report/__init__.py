"""Pictures and pages of finished studies. Nothing here trains, scores or changes a study."""
