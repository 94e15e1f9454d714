"""What several tabs of the page use: jobs, controls, pieces of HTML, pictures."""
