"""What the evaluation tools do: a checkpoint goes in, figures by a published protocol come out."""
