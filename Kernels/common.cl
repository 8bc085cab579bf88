// What every generated program begins with.
