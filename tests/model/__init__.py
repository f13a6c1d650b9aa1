"""An exhaustive search of the protocol: the production planners, driven through every order of events that can happen."""
