"""What the chapter on secondary sinks measures. Stored runs will be declared here, one experiment a module."""
