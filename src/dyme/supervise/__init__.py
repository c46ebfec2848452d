"""Visual supervision (paper, section 3.3): facts of images, grades of explored traces, written targets, audits of checkers."""
