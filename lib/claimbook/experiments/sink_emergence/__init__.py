"""What the chapter on the emergence of sinks measures. The stored runs are declared here, one experiment a module."""
