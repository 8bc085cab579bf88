// Nothing to call: linking the target sets the options.
