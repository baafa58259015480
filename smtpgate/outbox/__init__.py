"""The outbox: tasks that follow from verdicts, kept beside the journal, and their sender."""
