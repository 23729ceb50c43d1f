"""What the chapter on secondary sinks measures. The stored runs are declared here, each module holds one experiment."""
