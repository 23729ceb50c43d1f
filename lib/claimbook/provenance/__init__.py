"""What made a number: hashes of code, fingerprints, declarations of stored runs, the machine.

Plumbing, but with care: a change of the scheme of fingerprints makes everything stale. It belongs into a commit of its
own, in which what was fresh under the old scheme is stamped again.
"""
