"""A workflow as data: read it, convert it to a prompt, edit the prompt, check it. Pure: no clock, no I/O."""
